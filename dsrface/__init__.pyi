from dsrface.api import Batch as Batch
from dsrface.api import DsrfaceError as DsrfaceError
from dsrface.api import LoadedModel as LoadedModel
from dsrface.api import Preprocess as Preprocess
from dsrface.api import Report as Report
from dsrface.api import assert_workers_safe as assert_workers_safe
from dsrface.api import embed as embed
from dsrface.api import evaluate as evaluate
from dsrface.api import examine as examine
from dsrface.api import load_dsr as load_dsr
from dsrface.api import load_recogniser as load_recogniser
from dsrface.api import open_data as open_data
from dsrface.api import open_outputs as open_outputs
from dsrface.api import super_resolve as super_resolve

__version__: str
