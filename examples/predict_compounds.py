"""Learn an assay from 16 labelled drugs and rank others: ``python examples/predict_compounds.py``."""

import pandas as pd
from sklearn.metrics import roc_auc_score

from molmeta import FewShotClassifier
from molmeta.paths import datasets_dir

support = pd.read_csv(datasets_dir() / "demo" / "support.csv")
query = pd.read_csv(datasets_dir() / "demo" / "query.csv")

model = FewShotClassifier().fit(support["smiles"], support["cox_inhibitor"])
query["probability"] = model.predict_proba(query["smiles"])[:, 1]

print(query.sort_values("probability", ascending=False)[["name", "probability", "cox_inhibitor"]].head(10).to_string())
print(f"ROC-AUC {roc_auc_score(query['cox_inhibitor'], query['probability']):.2f}")
