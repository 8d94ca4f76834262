"""Names on TensorFlow Serving's wire that are not message fields: method paths, signatures and type addresses."""

from typing import Final

PREDICTION_SERVICE: Final = "tensorflow.serving.PredictionService"
MODEL_SERVICE: Final = "tensorflow.serving.ModelService"
PREDICT: Final = f"/{PREDICTION_SERVICE}/Predict"
GET_MODEL_METADATA: Final = f"/{PREDICTION_SERVICE}/GetModelMetadata"
GET_MODEL_STATUS: Final = f"/{MODEL_SERVICE}/GetModelStatus"
HANDLE_RELOAD_CONFIG_REQUEST: Final = f"/{MODEL_SERVICE}/HandleReloadConfigRequest"
DEFAULT_SIGNATURE: Final = "serving_default"
SIGNATURE_DEF: Final = "signature_def"
SIGNATURE_DEF_MAP: Final = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
CLASSIFY_METHOD: Final = "tensorflow/serving/classify"
REGRESS_METHOD: Final = "tensorflow/serving/regress"
TENSORFLOW_PLATFORM: Final = "tensorflow"
