"""TensorFlow without its chatter: what its native code and its dependencies say while they are imported."""

import logging
import os
import sys
import tempfile
import warnings


def import_tensorflow_quietly() -> None:
    """Import TensorFlow and TFT, with Keras 3, and keep from standard error what they write there meanwhile.

    Their native code writes to the descriptor itself, before any setting can silence it. If the import fails, what was
    kept is written after all.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # importing TFT would choose Keras 2 otherwise
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            import tensorflow as tf
            import tensorflow_transform  # noqa: F401  # it sets up logging of its own

            tf.config.list_physical_devices()  # the search for GPUs speaks too
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
