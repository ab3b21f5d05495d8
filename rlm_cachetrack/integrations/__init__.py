"""Integrations that record the runs and recursion depth of frameworks, one module each. Import a module by its name.

No module is needed to record calls: :func:`.instrument` does that for every framework. A module here adds the run
context that the calls alone do not show.
"""
