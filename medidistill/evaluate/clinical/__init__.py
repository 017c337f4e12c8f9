"""Statistics for clinicians: one file a statistic, intervals over patients, undefined cases raised or marked."""
