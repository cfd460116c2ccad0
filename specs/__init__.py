"""The shipped specs and JSON Schemas, as package data."""
