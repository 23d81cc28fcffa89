"""Settings: from `WEIR_…` environment variables and an optional YAML file, judged whole at start.

One flat set of names serves every service: `kafka_bootstrap_servers` in the file is `WEIR_KAFKA_BOOTSTRAP_SERVERS` in the
environment, and the environment wins. A service declares the settings it reads as a subclass of `ServiceSettings`. Anything wrong
anywhere is collected and reported at once; a name nobody reads is a mistake too, because it is most often a misspelling.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from weir.ops.mistakes import SettingsError

__all__ = ["PREFIX", "ServiceSettings", "SettingsError", "load"]

PREFIX = "WEIR_"
# Read by the tools and by the local stand-ins, not by services.
TOOL_VARIABLES = {
    "CACHE_DIR",
    "CONFIG",
    "CORPUS",
    "DEMO_DIR",
    "KAFKA_PORT",
    "SCHEMAS_DIR",
    "TOPIC_PARTITIONS",
    "TOPIC_REPLICATION",
}


class ServiceSettings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", env_ignore_empty=True, validate_default=True)

    kafka_bootstrap_servers: str = Field("", description="host:port of brokers, comma separated")
    kafka_security_protocol: str = Field("PLAINTEXT", pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$")
    kafka_ssl_ca_file: Path | None = Field(None, description="CA certificates the brokers are verified with")
    kafka_ssl_certificate_file: Path | None = None
    kafka_ssl_key_file: Path | None = None
    kafka_sasl_mechanism: str | None = Field(None, pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512|OAUTHBEARER)$")
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_compression: str = Field("lz4", pattern="^(none|gzip|snappy|lz4|zstd)$")
    topic_prefix: str = Field("weir", pattern=r"^[a-z][a-z0-9-]*(\.[a-z0-9-]+)*$")
    site: str = Field("default", min_length=1, description="label of the site this service belongs to")
    instance: str = Field(default_factory=socket.gethostname, min_length=1, description="name of this instance")
    health_host: str = "127.0.0.1"
    health_port: int = Field(0, ge=0, le=65535, description="/healthz, /readyz and /metrics; 0 turns them off")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_format: str = Field("auto", pattern="^(auto|json|text)$", description="auto: text on a terminal, else JSON")

    @model_validator(mode="after")
    def _bootstrap(self) -> Self:
        if not self.kafka_bootstrap_servers:
            # The name every Kafka tool knows.
            self.kafka_bootstrap_servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
        if not self.kafka_bootstrap_servers:
            raise ValueError(
                "WEIR_KAFKA_BOOTSTRAP_SERVERS is not set: name the brokers as host:port[,host:port…]; `make up` starts one to try"
            )
        for server in self.kafka_bootstrap_servers.split(","):
            host, colon, port = server.strip().rpartition(":")
            if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"WEIR_KAFKA_BOOTSTRAP_SERVERS: {server.strip()!r} is not host:port")
        return self

    @model_validator(mode="after")
    def _files_exist(self) -> Self:
        missing = [
            f"{PREFIX}{name.upper()}: no file {value}"
            for name in type(self).model_fields
            if name.endswith("_file") and isinstance(value := getattr(self, name), Path) and not value.is_file()
        ]
        if missing:
            raise ValueError("; ".join(missing))
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The file's content comes in as init settings (see load) and must yield to the environment.
        return env_settings, init_settings


_S = TypeVar("_S", bound=ServiceSettings)


def _all_names(cls: type[ServiceSettings] = ServiceSettings) -> set[str]:
    names = set(cls.model_fields)
    for sub in cls.__subclasses__():
        names |= _all_names(sub)
    return names


def _suggest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown(names: list[str]) -> list[str]:
    known = _all_names()
    return [name for name in names if name not in known]


def load(cls: type[_S], *, config_file: Path | None = None, complete: Callable[[], object] | None = None) -> _S:
    """The settings of one service.

    Args:
        cls: the service's settings class.
        config_file: YAML file of flat names; None reads the one WEIR_CONFIG names, if any.
        complete: makes the settings of all other services known; called only when a name is not known so far, since
            one file and one environment may serve several services.

    Raises:
        SettingsError: with every mistake in file and environment, each naming the setting, its value's place and the way out.
    """
    mistakes: list[str] = []
    content: dict[str, Any] = {}
    path = config_file or (Path(os.environ["WEIR_CONFIG"]) if os.environ.get("WEIR_CONFIG") else None)
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError([f"{path}: {error.strerror}; WEIR_CONFIG must name a readable YAML file"]) from error
        except yaml.YAMLError as error:
            raise SettingsError([f"{path}: not YAML: {error}"]) from error
        if loaded is not None and not isinstance(loaded, dict):
            raise SettingsError([f"{path}: must hold one mapping of setting names to values"])
        content = loaded or {}
    variables = [
        name.lower()
        for variable in os.environ
        if variable.startswith(PREFIX) and (name := variable.removeprefix(PREFIX)) not in TOOL_VARIABLES
    ]
    in_file = [str(name) for name in content]
    if complete is not None and _unknown(in_file + variables):
        complete()
    known = _all_names()
    mistakes += [f"{path}: {name} is not a setting{_suggest(name, known)}" for name in _unknown(in_file)]
    upper = {PREFIX + name.upper() for name in known}
    for name in _unknown(variables):
        variable = PREFIX + name.upper()
        mistakes.append(f"{variable} is not a setting{_suggest(variable, upper)}")
    try:
        settings = cls(**{name: value for name, value in content.items() if name in cls.model_fields})
    except ValidationError as error:
        for problem in error.errors():
            place = str(problem["loc"][0]) if problem["loc"] else ""
            text = problem["msg"].removeprefix("Value error, ")
            if not place:
                mistakes += text.splitlines()  # a validator of several settings may have found several mistakes
                continue
            variable = PREFIX + place.upper()
            where = variable if variable in os.environ or place not in content else f"{path}: {place}"
            given = "" if "password" in place or "secret" in place else f" (given: {problem.get('input')!r})"
            mistakes.append(f"{where}: {text}{given}")
        raise SettingsError(mistakes) from error
    if mistakes:
        raise SettingsError(mistakes)
    return settings
