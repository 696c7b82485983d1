"""Five milestones in the history of neural networks, each a chapter to read and to run: `python -m milestones`.

A chapter has `train(device, seed) -> Report`; `report.assert_ok()` raises unless the network learned its task.
`CONTROLS` are ways to break the training that must be noticed.
"""

CHAPTERS = ("perceptron", "xor", "mlp_digits", "cnn_digits", "transformer_copy")
