"""The Keras notebook's experiment: train, evaluate, and draw the latent plane and the manifold of digits."""

from matplotlib.figure import Figure

import aevb

config = aevb.Config.from_toml("examples/keras_notebook.toml")
vae = aevb.fit("mnist", config, on_epoch=lambda r: print(r["epoch"], round(-r["train_grey_objective"], 2)))

test = aevb.data.load_test("mnist")
print("test loss", -vae.evaluate(test).bound.value)

figure = Figure(figsize=(16, 8), layout="constrained")
left, right = figure.subplots(1, 2)
aevb.plots.plot_latent_space(vae, test.rows, test.labels, ax=left)
aevb.plots.plot_manifold(vae, n=20, ax=right)
figure.savefig("keras_notebook.png")

z = vae.encode(test).mean  # (10000, 2): the encoder
x = vae.decode(z[:5])  # (5, 28, 28): the decoder
draws = vae.sample(5, seed=0)  # (5, 28, 28): new digits
vae.save("keras_notebook.safetensors")
