"""Knowledge graph embedding: models, losses, training and filtered ranking. No orchestrator."""

import os

# A block of scores is made and given back at each step, and Linux fills it page by page: with pages of 2 MB a loss over
# all entities takes half the time. torch asks for them if this is set before its first large tensor; 0 turns it off.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
