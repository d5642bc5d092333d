"""Sends a mail over SMTP, one connection each."""

import smtplib
from dataclasses import dataclass, field
from email.message import EmailMessage

from alerts.errors import DeliveryError

TIMEOUT_S = 10.0
SUBMISSION_PORT = 587


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail server and who writes to whom; TLS (STARTTLS) is used on port 587 and wherever a user is named."""

    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)

    def send(self, subject: str, text: str) -> None:
        """Send one mail. Raises DeliveryError; it may be tried again unless the server refuses it for good (5xx)."""
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = subject, self.sender, ", ".join(self.recipients)
        message.set_content(text)
        where = f"{self.host}:{self.port}"
        try:
            with smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_S) as server:
                if self.user or self.port == SUBMISSION_PORT:
                    server.starttls()
                if self.user:
                    server.login(self.user, self.password)
                server.send_message(message)
        except smtplib.SMTPResponseException as error:
            retry = error.smtp_code < 500
            raise DeliveryError(f"{where}: {error.smtp_code}: {error.smtp_error!r}", retry=retry) from error
        except smtplib.SMTPRecipientsRefused as error:
            retry = any(code < 500 for code, _ in error.recipients.values())
            raise DeliveryError(f"{where}: recipients refused: {error.recipients}", retry=retry) from error
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"{where}: {error or type(error).__name__}", retry=True) from error
