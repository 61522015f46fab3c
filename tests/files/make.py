"""Write the files of the present format that tests/test_files.py loads.

Run it once for each format, before the release that has it: files of earlier formats
stay as they are.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skae
from skae import (
    AutoencoderImputer,
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
)
from skae._files.persistence import FORMAT
from skae.anomaly_scores import Combined, Mahalanobis, NegativeELBO, Reconstruction
from skae.architectures import MLP, Conv
from skae.bottlenecks import TopK, Variational, VectorQuantized
from skae.corruptions import Gaussian
from skae.penalties import L1

FOLDER = Path(__file__).parent
small = {"max_epochs": 20, "random_state": 0}
ESTIMATORS = {
    "detector": AutoencoderOutlierDetector(
        2,
        n_estimators=2,
        anomaly_score=Combined([Reconstruction(), Mahalanobis()]),
        architecture=MLP((4,)),
        contamination=0.1,
        calibration_fraction=0.2,
        **small,
    ),
    "variational": AutoencoderOutlierDetector(
        2,
        anomaly_score=NegativeELBO(),
        architecture=MLP((4,), norm="batch"),
        bottleneck=Variational(),
        calibration_fraction=0.2,
        **small,
    ),
    "topk": AutoencoderTransformer(
        6, architecture=MLP(()), bottleneck=TopK(2), penalty=L1(0.01), **small
    ),
    "pipeline": make_pipeline(
        StandardScaler(),
        AutoencoderImputer(
            AutoencoderTransformer(
                2,
                architecture=Conv((1, 4), channels=(2,)),
                corruption=Gaussian(),
                **small,
            )
        ),
        AutoencoderTransformer(
            2, architecture=MLP((4,)), bottleneck=VectorQuantized(8), **small
        ),
    ),
}
METHODS = ("transform", "score_samples", "predict", "p_values")

if __name__ == "__main__":
    X = load_iris().data
    rows = X[::15]
    for name, estimator in ESTIMATORS.items():
        estimator.fit(X)
        path = FOLDER / f"format_{FORMAT}_{name}.skae"
        skae.save(estimator, path)
        expected = {"X": rows.tolist()} | {
            method: np.asarray(getattr(estimator, method)(rows)).tolist()
            for method in METHODS
            if hasattr(estimator, method)
        }
        path.with_suffix(".json").write_text(json.dumps(expected) + "\n")
        print(f"{path.name:40} {path.stat().st_size:8,} bytes")
