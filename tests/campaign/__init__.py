"""The fault campaign: real studies on a real Ray cluster of several nodes, disturbed at random moments and judged.

    make campaign                                 all faults, and reports/reliability.md written from the rows
    PYTHONPATH=tests python -m campaign --only node --injections 3 --to somewhere

Everything runs from one scratch folder: cluster, MLflow server, homes, results. Nothing outside it is touched.
"""
