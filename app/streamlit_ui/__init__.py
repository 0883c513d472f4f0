"""The course in Streamlit: widgets and layout. What they show is made elsewhere; no other folder says streamlit."""

from app.streamlit_ui.page import main

__all__ = ["main"]
