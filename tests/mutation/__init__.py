"""Mutation testing: whether a test notices when a module that decides is broken on purpose.

``python -m tests.mutation --module labeler/refine.py`` prints every change that no test noticed.
"""
