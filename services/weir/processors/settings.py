"""What the processors can be told; apart from what runs them, so that it can be had without Faust."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from weir.enrich.direction import own_networks
from weir.enrich.filters import FiltersError, load_rules
from weir.ops.settings import ServiceSettings

__all__ = ["ProcessorSettings"]


class ProcessorSettings(ServiceSettings):
    """What a Faust processor reads."""

    processor_max_in_flight: int = Field(32, ge=1, le=1000, description="raw records whose outputs are on their way")
    processor_commit_seconds: float = Field(0.5, gt=0, le=60, description="how often offsets are committed")
    processor_session_seconds: float = Field(
        60.0, ge=6, le=90, description="without a sign of life for so long, a worker's partitions go to others"
    )
    filters_file: Path | None = Field(
        None, description="filters of events, YAML (docs/filters.md); read anew when it changes; none filters nothing"
    )
    filters_poll_seconds: float = Field(2.0, ge=0.05, le=3600, description="how often the filters are looked at for changes")
    own_networks: str = Field(
        "private",
        description="CIDR ranges by which network_direction is told, comma separated; the word private stands for those of "
        "RFC 1918, RFC 6598 and RFC 4193",
    )
    enrich_community_id: bool = Field(
        True,
        description="fill in network_community_id where a source gives none; the hash is an eighth of what a flow costs in all",
    )
    community_id_seed: int = Field(0, ge=0, le=65_535, description="seed of Community IDs, the same as in sensors and other tools")
    rules_dir: str | None = Field(None, description="folder of Sigma rules instead of those that come with Weir")
    suppressions_file: Path | None = Field(
        None, description="suppressions of alerts and allow-lists of events, YAML (docs/alerts.md); read anew when it changes"
    )
    rules_poll_seconds: float = Field(
        10.0, ge=0.05, le=3600, description="how often rules and suppressions are looked at for changes"
    )
    plugins: str = Field("", description="names of the plug-ins to load, comma separated; no other is, even if installed")
    utc_offset_minutes: int = Field(
        0, ge=-1439, le=1439, description="zone of RFC 3164 times, which name none, in minutes east of UTC"
    )
    enrich_mmdb_files: str = Field(
        "", description="MaxMind DB files for geography and AS, comma separated; the first that knows wins"
    )
    enrich_asset_files: str = Field("", description="assets and networks, CSV or YAML, comma separated")
    enrich_assets_topic: bool = Field(False, description="also follow the topic state.assets, which goes before the files")
    enrich_user_files: str = Field("", description="users and all their names, CSV or YAML, comma separated")
    enrich_intel: str = Field(
        "", description="threat intelligence: files and folders of lists, comma separated; name=path names one"
    )
    enrich_intel_max_indicators: int = Field(1_000_000, ge=1, le=20_000_000, description="more indicators than these are refused")
    enrich_intel_max_age_days: float = Field(
        90.0,
        ge=0,
        le=36_500,
        description="indicators but hashes expire so long after they were last seen, or the list's date; 0: never",
    )
    enrich_seen_hours: float = Field(
        0.0, ge=0, le=8760, description="how long the addresses of a user are remembered; 0 turns it off"
    )
    enrich_seen_users: int = Field(50_000, ge=1, le=5_000_000, description="users whose addresses are remembered")
    enrich_cache_entries: int = Field(
        100_000,
        ge=1_000,
        le=10_000_000,
        description="answers remembered of each kind: addresses, users, hosts, names, URLs, hashes",
    )
    enrich_reload_seconds: float = Field(5.0, ge=0, le=86_400, description="how often files are looked at for changes; 0: never")

    @model_validator(mode="after")
    def _filters_and_networks(self) -> Self:
        mistakes: list[str] = []
        try:
            own_networks(self.own_networks)
        except ValueError as error:
            mistakes.append(f"WEIR_OWN_NETWORKS: {error}")
        if self.filters_file is not None and self.filters_file.is_file():
            try:
                load_rules(self.filters_file)
            except FiltersError as error:
                mistakes += error.mistakes
        if self.enrich_assets_topic and not self.enrich_reload_seconds:
            mistakes.append(
                "WEIR_ENRICH_ASSETS_TOPIC needs WEIR_ENRICH_RELOAD_SECONDS above 0: so often what the topic says is taken over"
            )
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self
