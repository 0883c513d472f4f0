"""Build the course page in Streamlit. Only this package imports Streamlit; the content comes from `app.course`."""

from app.streamlit_ui.page import main

__all__ = ["main"]
