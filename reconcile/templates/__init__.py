"""The jinja2 templates of the markdown and HTML forms, as package data."""
