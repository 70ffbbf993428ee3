"""Print when each word is said and by whom, from the JSON file that `whisperx` has written.

python examples/print_words.py out/demo.json [number of words]
"""

import json
import sys
from itertools import islice
from pathlib import Path

result = json.loads(Path(sys.argv[1]).read_text("utf-8"))
n_words = int(sys.argv[2]) if len(sys.argv) > 2 else None
words = ((segment, word) for segment in result["segments"] for word in segment["words"])
for segment, word in islice(words, n_words):
    speaker = word.get("speaker") or segment.get("speaker", "")
    print(f"{word['start']:8.2f} {word['end']:8.2f}  {word['word']:16} {speaker}".rstrip())
