"""Paired experiments: arms that share their seeds, each trained alike and scored, as `attnbench verdict` reads them."""

import itertools
from pathlib import Path

import torch

BATCH = 16


def train(images, loss, steps, model, seed):
    """AdamW under one cycle; the order of the images depends on the seed alone."""
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.train().parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(steps):
        batch = [images[number] for number in torch.randint(len(images), (BATCH,), generator=order)]
        optimiser.zero_grad()
        loss(model, batch).backward()
        optimiser.step()
        schedule.step()


def scores(name, arms, network, train, score):
    """Write the score in percent of each arm under three seeds to a file, as they come."""
    torch.set_num_threads(1)  # with another number of them sums have other last digits
    with Path(name).open("w") as file:
        print("arm,seed,score,unit", file=file)
        for seed, arm in itertools.product(range(3), arms):
            train(model := network(arm, seed), seed)
            print(f"{arm},{seed},{score(model):.3f},%", file=file, flush=True)
