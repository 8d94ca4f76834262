"""Certificates for the tests: an authority, and keys that it signed."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates for 127.0.0.1 and localhost that hold for an hour."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _named(name)
        self.certificate = self._signed(self.name, self.key, authority=True)
        self.pem = self.certificate.public_bytes(PEM).decode()

    def issue(self, name):
        """Private key and certificate as PEM texts."""
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        text = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain).decode()
        return text, self._signed(_named(name), key, authority=False).public_bytes(PEM).decode()

    def _signed(self, subject, key, authority):
        now = datetime.datetime.now(datetime.UTC)
        places = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(places), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())


def _named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
