"""Published JSON Schemas of the planner's files: ``run.json``, ``run_meta.json``, ``model.json`` and ``report.json``.

``python -m planner.schemas`` writes them again after a change of the models that they describe.
"""
