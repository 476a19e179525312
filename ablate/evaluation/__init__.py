"""What others made, scored by our tasks: networks from files, and files of predictions. Nothing is trained here.

`asked` is what is asked: task, protocol, data. `prediction_files` reads what others predicted, `scoring` makes an
evaluation of predictions, `stored` keeps it, `official` lays the field's own tools beside it.
"""
