"""Five milestones in the history of neural networks, each a chapter to read and to run: `python -m milestones`.

A chapter has `train(device, seed) -> Report`; `report.assert_ok()` says whether the network learned what it
should. `CONTROLS` are ways to break it that must be noticed.
"""

CHAPTERS = ("perceptron", "xor", "mlp_digits", "cnn_digits", "transformer_copy")
