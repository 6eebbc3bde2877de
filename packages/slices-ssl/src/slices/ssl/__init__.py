"""Self-supervised objectives for irregular clinical time series, on any encoder."""

from .base import BaseSSLObjective as BaseSSLObjective
from .base import SSLConfig as SSLConfig
from .factory import build_ssl_objective as build_ssl_objective
