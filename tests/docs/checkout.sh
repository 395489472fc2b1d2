# Makes the page's folder look like a checkout of the repository.
ln -s "$CHECKOUT"/* .
