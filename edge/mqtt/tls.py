"""TLS to the broker, 1.2 or later; its certificate and host name are always checked, and there is no way around."""

from __future__ import annotations

import logging
import ssl

from edge.config import MqttConfig, TlsConfig
from edge.credentials import read_secret
from edge.errors import ConfigError

_X509_NOT_YET_VALID = 9
_X509_EXPIRED = 10
_X509_OTHER_NAMES = (62, 64)  # host name, IP address
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")

_log = logging.getLogger(__name__)


class _ClosedWhenRefused(ssl.SSLSocket):
    """paho leaves a socket whose handshake failed to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def check_transport(config: MqttConfig) -> None:
    """What of the way to the broker can be checked before the first connection; warns of a password sent in clear.

    Raises:
        ConfigError: certificates or keys cannot be used.
    """
    if config.tls is not None:
        tls_context(config.tls)
    elif config.host not in _THIS_MACHINE:
        what = "the password and every message go" if config.username is not None else "every message goes"
        _log.warning("%s unencrypted to broker %s: add [mqtt.tls]", what, config.host)


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """What a connection needs, read anew each time so that renewed certificates count without a restart.

    Raises:
        ConfigError: a file cannot be read, is no certificate or key, or they do not belong together.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as error:
        raise ConfigError(
            f"certificate authority '{config.ca_file}' cannot be read ({_said(error)})", "check mqtt.tls.ca_file (PEM)"
        ) from error
    context.sslsocket_class = _ClosedWhenRefused
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.cert_file is None:
        return context
    password = (
        "" if config.key_password_file is None else read_secret(config.key_password_file, "mqtt.tls.key_password_file")
    )
    try:
        # Without a function for the password OpenSSL would ask for it on the terminal.
        context.load_cert_chain(config.cert_file, config.key_file, lambda: password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"client certificate '{config.cert_file}' with key '{config.key_file}' cannot be used ({_said(error)})",
            "check mqtt.tls.cert_file, key_file (PEM, one belongs to the other) and key_password_file",
        ) from error
    return context


def tls_remedy(config: TlsConfig, error: Exception | None) -> str:
    """What to do about a connection that ended before the broker's consent.

    Args:
        config: as it was opened with.
        error: what the handshake raised; None when it was good on this side and the broker closed afterwards, as in
            TLS 1.3 when it does not accept the client.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_remedy(error.verify_code)
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "that port does not speak TLS: set mqtt.port to the broker's TLS port, usually 8883"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return "check that it runs, and its address"
    if config.cert_file is None:
        return "it may ask for a client certificate: set mqtt.tls.cert_file and mqtt.tls.key_file"
    return "it may refuse the client certificate: check that it has not expired and that the broker trusts its issuer"


def _verification_remedy(code: int) -> str:
    if code in (_X509_EXPIRED, _X509_NOT_YET_VALID):
        return "renew the broker's certificate, or set this machine's clock"
    if code in _X509_OTHER_NAMES:
        return "set mqtt.host to a name in the broker's certificate, or issue one for this name"
    return "set mqtt.tls.ca_file to the authority that signed the broker's certificate"


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
