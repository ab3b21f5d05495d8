"""Integrations with frameworks, one module each. Import a module by its name.

:func:`.instrument` records the calls that a framework sends through the OpenAI SDK. A module here records the calls
that it sends otherwise, and the run context that the calls alone do not show. A program that loads a framework without
its module gets one log line (:mod:`.capture.framework_hints`).
"""
