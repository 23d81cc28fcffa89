"""The enrichment that a processor with these settings would do, as far as it needs no Kafka."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from weir.enrich.direction import own_networks
from weir.model.topics import DATASETS
from weir.processors.derived import derived_steps
from weir.processors.enrichment import Enrichment, load_enrichment

__all__ = ["ASSETS_TOPIC", "enrichment_of_settings"]

ASSETS_TOPIC: Final = "WEIR_ENRICH_ASSETS_TOPIC is set; the topic is not followed here, so its assets are left out"

_PREFIX: Final = "WEIR_"
_PLACEHOLDER: Final = "127.0.0.1:9092"
_OURS: Final = frozenset({"OWN_NETWORKS", "COMMUNITY_ID_SEED", "CONFIG"})


def _is_ours(name: str) -> bool:
    bare = name.removeprefix(_PREFIX)
    return name.startswith(_PREFIX) and (bare in _OURS or bare.startswith("ENRICH_"))


@contextmanager
def _alone() -> Iterator[None]:
    """The environment with nothing in it but what enrichment reads: what else is wrong with it is no matter of decoding."""
    names = {name for name in os.environ if name.startswith(_PREFIX) or name == "KAFKA_BOOTSTRAP_SERVERS"}
    others = {name for name in names if not _is_ours(name)}
    put_back = {name: os.environ.pop(name) for name in others}
    os.environ["KAFKA_BOOTSTRAP_SERVERS"] = _PLACEHOLDER
    try:
        yield
    finally:
        del os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        os.environ.update(put_back)


def enrichment_of_settings(complete: Callable[[], object] | None = None) -> tuple[Enrichment, list[str]]:
    """What WEIR_OWN_NETWORKS, WEIR_COMMUNITY_ID_SEED and WEIR_ENRICH_… ask for, in the environment or the file of WEIR_CONFIG.

    Args:
        complete: makes the settings of all services known, see `weir.ops.settings.load`.

    Returns:
        The enrichment, its tables read and not watched; and what a person should know of it.

    Raises:
        SettingsError: with every mistake in these settings and in the tables.
    """
    if not any(map(_is_ours, os.environ)):
        # As the settings' defaults have it, without the half second that it takes to load all that has settings.
        networks = own_networks("private")
        return Enrichment({dataset: derived_steps(dataset, networks) for dataset in DATASETS}), []
    from weir.ops.settings import load  # noqa: PLC0415
    from weir.processors.settings import ProcessorSettings  # noqa: PLC0415

    with _alone():
        settings = load(ProcessorSettings, complete=complete)
    notes = [ASSETS_TOPIC] if settings.enrich_assets_topic else []
    return load_enrichment(settings.model_copy(update={"enrich_assets_topic": False})), notes
