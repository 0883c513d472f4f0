"""Record the training of the toy network, for replay in the course.

python -m scripts.record_course
"""

from tqdm import tqdm

from app.course.chapters.training import RECORDED
from app.course.toy import ITERATIONS, Trainer, held_out, trained_on

__all__ = ["main"]


def main() -> None:
    """Train once and save the history."""
    trainer = Trainer(0, trained_on(), held_out())
    with tqdm(total=ITERATIONS, unit="it") as bar:
        while not trainer.finished:
            trainer.advance(1.0)
            bar.update(len(trainer.history.noise) - bar.n)
    RECORDED.parent.mkdir(exist_ok=True)
    trainer.history.save(RECORDED)


if __name__ == "__main__":
    main()
