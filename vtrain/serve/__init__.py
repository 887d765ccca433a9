"""A model behind a small HTTP API and a page of its own, for one machine or a trusted network.

It takes a model as plain functions: it knows neither torch nor onnxruntime, nor any config.
"""
