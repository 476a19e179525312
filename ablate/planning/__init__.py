"""What is missing, what it costs and how long it takes.

    kept             what was found out for a study, kept with its results
    open_study       a study as commands see it: read, one scale chosen, matched levels solved
    skeleton         joints that only a set's files name -> names in the recipe
    match            levels that shall cost the same -> levels that do; search.py finds the knob's value
    plan             price, time and power of what is missing
    arm_costs        what each arm costs
    gpu_share        what a trial takes of memory and disk, and how many share a GPU
    durations        how long trials take, and in which order to launch them
    schedule         when a list of trials will be done
    last_run         what the last run was predicted to take, and how far that was off

Others import these files, for some take torch, which takes seconds: this face imports nothing.
"""
