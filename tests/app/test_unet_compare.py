"""Plain U-Nets on the page: offered for comparison only."""

import pytest

from app.analysis import comparisons
from app.analysis.comparisons import ANCHOR, PLAIN, Setup, Side
from app.core.session import Session
from app.core.settings import CONTROLS, read
from app.i18n import words
from app.inputs.images import phantom
from app.views import comparison_views, descriptions
from medsegdiff.progress import Progress


@pytest.fixture(scope="module")
def session(checkpoint, plain):
    """A session with an untrained V2 and an untrained U-Net of the same task."""
    return Session({"plain": str(plain), "tiny": str(checkpoint)}, "cpu")


SETTINGS = read([2 if c.field in ("members", "steps") else c.default for c in CONTROLS], trace=False)


def test_a_plain_unet_is_offered_for_comparison_only(session):
    assert (list(session.sources), list(session.plain)) == (["tiny"], ["plain"])
    assert comparisons.checkpoints_for(session, "skin-lesion") == ["tiny", "plain"]
    assert comparisons.checkpoints_for(session, "brain-flair") == []
    assert descriptions.card(session.card("plain"), words("en")).startswith("<p>plain U-Net, 0.0 million parameters")


def test_a_plain_unet_ignores_sampler_and_steps(session):
    setups = [Setup("tiny", "ddim", 2), Setup("plain", "ddpm", 40), Setup("plain", ANCHOR, 1)]
    events = list(comparisons.compare(session, phantom(3), SETTINGS, setups))
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [(n, 4) for n in (1, 2, 3, 4)]
    tiny, plain, again = (e for e in events if isinstance(e, Side))
    assert plain.setup == again.setup == Setup("plain", PLAIN, 0)
    assert (plain.labels == again.labels).all()
    assert plain.labels.shape == tiny.labels.shape
    assert (plain.parameters, len(plain.dice)) == (session.card("plain").parameters, 1)

    text = comparison_views.side_words([tiny, plain], words("en"))
    assert "plain, plain U-Net<" in text
    assert "Dice between the two masks" in text
    shown = comparison_views.masks([tiny, plain, again], phantom(3), words("zh"))
    assert shown.count("<img") == 3
    assert "普通 U-Net" in shown
