"""`python -m elfatt_deploy` is the command `elfatt-deploy`."""

from elfatt_deploy.cli.app import app

if __name__ == "__main__":
    app()
