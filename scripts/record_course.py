"""Record the samples of chapter 1 and the training of chapter 9, for replay in the course.

python -m scripts.record_course
"""

from dataclasses import fields

import numpy as np
from tqdm import tqdm

from app.course.chapters import raters, training
from app.course.toy import ITERATIONS, held_out, trained_on
from app.course.trainer import Trainer

__all__ = ["main"]


def main() -> None:
    """Sample and train once, and save the results."""
    found = raters.Recorded.computed()
    raters.RECORDED.parent.mkdir(exist_ok=True)
    np.savez_compressed(raters.RECORDED, **{f.name: getattr(found, f.name) for f in fields(found)})
    trainer = Trainer(0, trained_on(), held_out())
    with tqdm(total=ITERATIONS, unit="it") as bar:
        while not trainer.finished:
            trainer.advance(1.0)
            bar.update(len(trainer.history.noise) - bar.n)
    trainer.history.save(training.RECORDED)


if __name__ == "__main__":
    main()
