"""A recipe becomes a network, and a network has a cost.

    build            recipe -> network, initialised by seed and layer name
    cost             parameters, multiply-adds and memory of a recipe's network; count.py counts one forward pass
    fvcore_count     fvcore's count beside ours
    probe            one tiny pass through a plug-in's network, before training
    export           a whole network as ONNX or as torch's exported program, run again and compared
    speed            latency and throughput on this machine
    published_costs  the papers' figures beside ours
    fvcore_count     fvcore's count beside ours

Others import these files, for torch takes seconds: this face imports nothing.
"""
