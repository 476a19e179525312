"""What others made, scored by our tasks: networks from files, and files of predictions. Nothing is trained here.

`evaluate` goes from a file to its evaluation: `asked` is what is asked (task, protocol, data), `checkpoints` and
`onnx_file` load networks, `reading` has the knobs for that and `networks` fits a network to a task; `prediction_files`
reads what others predicted, `scoring` scores predictions. `official` has the field's own
tools, `published` what is known of released files, `pictures` are of no set, and drawn on.
"""
