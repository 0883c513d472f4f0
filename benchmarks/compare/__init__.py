"""Other networks on the same pictures, with the same budget, judged by the same scores."""
