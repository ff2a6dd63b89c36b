"""The processes of a run."""

from streamfuse.services.parent import die_with_parent

die_with_parent()  # here, and not where a service begins: by then it has loaded everything it needs
