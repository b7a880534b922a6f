"""MLflow as a projection of the study's database.

projection.py  StudyRecord -> the runs that MLflow should hold; pure
points.py      ... and their metric histories
moments.py     ... and when everything happened
finalists.py   ... and which checkpoint stands for a finished arm
mirror.py      sends what MLflow does not hold yet: runs
models.py      ... and the models of finished arms
views.py       the saved views of a study
answers.py     what such a model is when MLflow has loaded it
worker.py      the mirror's own process, and the same as one command
process.py     how a driver starts and ends that process; never waits for the tracking server

Neither the driver nor a trial ever calls MLflow: with its defaults one call to a dead server blocks for
four minutes and then raises. What is not sent now is sent later, from the database.
"""
