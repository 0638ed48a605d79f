"""Which models there are, what each needs, and how one comes here and gets its gates.

    shape        what a model's config.json says of it, and whether its architecture is supported
    machine      whether it fits into this machine's memory
    recommended  a short list of models
    home         the folder of downloaded models, and any other folder, looked at
    offers       all of these as one list, with what each needs and whether it has gates
    hub          what the hub says of a model, and its files
    download     a model fetched from the hub, with progress, cancelled and gone on with
    choice       the model that the next start begins with
    lessons      texts to train gates on
    gates        gates trained for a model

All but `gates` do without MLX, so that the list shows at once.
"""

from .refusal import ModelRefused as ModelRefused
