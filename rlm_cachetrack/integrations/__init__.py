"""Integrations with frameworks, one module each. Import a module by its name.

:func:`.instrument` records the calls that a framework sends through the OpenAI SDK. A module here records the calls
that the framework sends in another way, and the run context, which the calls do not contain. A program that loads a
framework without its module gets one log line (:mod:`.capture.framework_hints`).
"""
