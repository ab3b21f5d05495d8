"""Frameworks whose own notion of runs and depth is worth recording, one module each; imported only by name.

A program needs none of them to have its calls recorded: :func:`.instrument` does that, whatever framework
makes the calls. A module here tells what the calls alone do not say.
"""
