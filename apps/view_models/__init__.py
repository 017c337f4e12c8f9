"""What the pages show and start, computed from files. Nothing here knows of Streamlit."""
