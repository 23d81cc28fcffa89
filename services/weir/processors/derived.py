"""Enrichment that follows from the event itself, as steps for `weir.processors.enrichment`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from weir.enrich.community_id import CommunityIds
from weir.enrich.direction import Directions, own_networks
from weir.enrich.networks import Network
from weir.enrich.services import network_names, service_names
from weir.enrich.user_agent import user_agents
from weir.model.schemas import latest
from weir.model.topics import DATASETS
from weir.processors.enrichment import Step

if TYPE_CHECKING:
    from weir.processors.settings import ProcessorSettings

__all__ = ["configured_steps", "derived_steps"]


@cache
def _directions(networks: tuple[Network, ...]) -> Directions:
    """One for all datasets, which have the same addresses in them."""
    return Directions(networks)


def derived_steps(
    dataset: str, networks: Iterable[Network], *, community_ids: bool = True, community_id_seed: int = 0
) -> list[Step]:
    """The steps that fit a dataset's fields, in the order in which they build upon each other.

    Args:
        dataset: one of `weir.model.topics.DATASETS`.
        networks: the operator's own, for network_direction, as `weir.enrich.direction.own_networks` reads them.
        community_ids: whether network_community_id is filled in: a hash for each flow, where all else is a few look-ups.
        community_id_seed: 0 … 65535.
    """
    fields = {field["name"] for field in latest(dataset).parsed["fields"]}
    steps: list[Step] = []
    if "network_iana_number" in fields:
        steps.append(network_names)
    if {"network_protocol", "destination_port", "network_transport"} <= fields:
        steps.append(service_names)
    if {"network_direction", "source_ip", "destination_ip"} <= fields:
        steps.append(_directions(tuple(networks)))
    if community_ids and "network_community_id" in fields:
        steps.append(CommunityIds(community_id_seed))
    if "user_agent_name" in fields:
        steps.append(user_agents)
    return steps


def configured_steps(settings: ProcessorSettings) -> dict[str, list[Step]]:
    """The steps of every dataset, as the settings have them."""
    networks = own_networks(settings.own_networks)
    return {
        dataset: derived_steps(
            dataset, networks, community_ids=settings.enrich_community_id, community_id_seed=settings.community_id_seed
        )
        for dataset in DATASETS
    }
