"""The table of verbs: ``pack`` calls ``runs.pack``, which takes ``runs.Pack``, and so on."""

VERBS = {
    "faces": "Draw face images of random people, to make a gallery from.",
    "align": "Cut aligned faces out of photographs.",
    "embed": "Turn images into a file of embeddings, such as a gallery.",
    "pack": "Choose identities on the hypersphere, as far apart as possible.",
    "frontier": "Pack with several weights of the gallery, and recommend one.",
    "synthesize": "Draw face images of the identities, as a data set.",
    "train": "Train a face recognizer on a data set.",
    "evaluate": "Measure a recognizer on verification benchmarks.",
    "ijb": "Measure a recognizer on IJB-B or IJB-C.",
    "pairs": "Draw a verification benchmark from a folder of people.",
    "export": "Write a recognizer as an ONNX file.",
    "leakage": "Find faces that are too close to real people, or to each other.",
    "diversity": "Measure the variety of a data set.",
    "plan": "Estimate the memory and time that a packing needs on given hardware.",
    "bounds": "Print a bound that no packing can beat, and the best construction.",
    "report": "Write the report of a finished packing again.",
    "compare": "Compare finished runs on one page.",
    "demo": "Run the whole method in a world of toy faces.",
}
"""What each verb does: first the stages of the method in their order, then the others."""

EXAMPLES = {
    "faces": "--source ldm-celebahq-256 --num 10000 --out IMAGES",
    "align": "PHOTOS --detect det_10g.onnx --out IMAGES",
    "embed": "IMAGES --recognizer model.onnx --out faces.npz",
    "pack": "--num-ids 10000 --gallery faces.npz --out run",
    "frontier": "--num-ids 10000 --gallery faces.npz --out frontier",
    "synthesize": "--embeddings run --generator arc2face --out DATA",
    "train": "--data DATA/shards --backbone iresnet50 --out model",
    "evaluate": "--model model --benchmark lfw.bin agedb_30.bin --out figures",
    "ijb": "IJBC --model model --out figures",
    "pairs": "PEOPLE --num 6000 --out pairs.csv",
    "export": "model --color rgb --out model.onnx",
    "leakage": "--embeddings faces.npz --against real_people.npy --out pairs",
    "diversity": "--embeddings faces.npz --gallery gallery.npz --out variety",
    "plan": "--num-ids 10000000 --dim 512 --devices v5e:256",
    "bounds": "--num-ids 240 --dim 8 --verify",
    "report": "run",
    "compare": "packed-0 packed-1 paper-0 --label packed packed paper --out comparison",
    "demo": "--quick",
}
