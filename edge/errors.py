"""Every error that tfanet-edge raises on purpose.

TfanetEdgeError             carries what is wrong (with the value) and what to do about it
  InputError                the person can mend it: the command line ends with exit status 2
    ConfigError             a configuration file or option
    BundleError             a bundle is missing, malformed, tampered with, or does not fit
    ImageError              an image cannot be read or has the wrong size
    ProducerError           a GenTL producer is missing, or is not one
    AravisError             Aravis or its Python binding is missing
    CameraSetupError        no such camera, or a feature did not take its value
    BrokerAddressError      a broker address that cannot be one
    AcceleratorError        TensorRT, its Python packages, an NVIDIA GPU or the driver is missing
  RefusedError              measured figures are outside their limits: exit status 3
  EngineError               the inference engine failed, or contradicts the golden vectors
    EngineLostError         it will not work again in this process
  DeliveryError             the broker refused the connection or a message
  OutboxError               the outbox file cannot be opened or written
  MessageError              a received message breaks the published rules
"""

from __future__ import annotations


class TfanetEdgeError(Exception):
    """What is wrong, and the way out.

    Args:
        problem: one clause that names the offending value.
        remedy: one clause that says what to do; empty when there is nothing a person can do.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem


class InputError(TfanetEdgeError):
    """Something a person gave is wrong; exit status 2."""


class ConfigError(InputError):
    """A configuration file or option."""


class BundleError(InputError):
    """A bundle is missing, malformed, tampered with, or does not fit."""


class ImageError(InputError):
    """An image cannot be read or has the wrong size."""


class ProducerError(InputError):
    """A GenTL producer is missing, or is not one."""


class AravisError(InputError):
    """Aravis or its Python binding is missing."""


class CameraSetupError(InputError):
    """No such camera, or a feature did not take its value."""


class BrokerAddressError(InputError):
    """A broker address that cannot be one."""


class AcceleratorError(InputError):
    """TensorRT, its Python packages, an NVIDIA GPU or the driver is missing."""


class RefusedError(TfanetEdgeError):
    """Measured figures are outside their limits; exit status 3."""


class EngineError(TfanetEdgeError):
    """The inference engine failed, or contradicts the golden vectors."""


class EngineLostError(EngineError):
    """The inference engine will not work again in this process."""


class DeliveryError(TfanetEdgeError):
    """The broker refused the connection or a message."""


class OutboxError(TfanetEdgeError):
    """The outbox file cannot be opened or written."""


class MessageError(TfanetEdgeError):
    """A received message breaks the published rules."""
