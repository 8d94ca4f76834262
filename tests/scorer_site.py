"""One installation for tests of the scorer: topics, a stream into them, its journal, and any number of scorers."""

import threading

from plumbline.names import Topic
from streaming.topics import ensure_topics
from tests.fakes import payment, raw
from tests.scorer_process import Journal, ScorerProcess, Stream

ACCOUNTS = 40


class Site:
    """One installation: topics, a stream into them, its journal, and any number of scorers."""

    def __init__(self, bootstrap, prefix, model_server, folder, **settings):
        ensure_topics(bootstrap, prefix, 2)
        self.bootstrap, self.prefix, self.folder = bootstrap, prefix, folder
        self.environ = {
            "PLUMBLINE_KAFKA_BOOTSTRAP": bootstrap,
            "PLUMBLINE_TOPIC_PREFIX": prefix,
            "PLUMBLINE_MODEL_SERVER": model_server,
            "PLUMBLINE_DATA_DIR": str(folder / "data"),
            **{f"PLUMBLINE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.stream = Stream(bootstrap, prefix)
        self.journal = Journal(bootstrap, prefix)
        self.scorers = []
        self.paid = 0
        self.accounts = ACCOUNTS

    def scorer(self):
        made = ScorerProcess(self.environ, self.folder / f"score-{len(self.scorers)}.log")
        self.scorers.append(made)
        return made

    def pay(self, count):
        """New payments of many accounts, keyed by account as platforms key them."""
        numbers = range(self.paid, self.paid + count)
        self.paid += count
        made = [payment(n, account_id=f"a{n % self.accounts}", merchant_id=f"m{n % 7}") for n in numbers]
        self.stream.send(Topic.TRANSACTIONS, [(each["account_id"].encode(), raw(each)) for each in made])

    def close(self):
        for each in self.scorers:
            each.end()
        self.stream.close()
        self.journal.close()


class Flow:
    """Payments that keep coming, from a thread of their own, until it is left; what fails there fails here."""

    def __init__(self, site, count=20, pause=0.02):
        self.site, self.count, self.pause = site, count, pause
        self.enough = threading.Event()
        self.failed = []
        self.thread = threading.Thread(target=self._flow)

    def _flow(self):
        try:
            while not self.enough.wait(self.pause):
                self.site.pay(self.count)
        except BaseException as error:  # noqa: BLE001 - raised again where the test can see it
            self.failed.append(error)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        self.thread.join()
        if self.failed:
            raise self.failed[0]
