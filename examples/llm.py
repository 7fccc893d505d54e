"""A language model in a folder loses a fifth of its parameters, goes to another folder, and writes on."""

import sys
from pydoc_data.topics import topics

from prunus import engine
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = sys.argv[1:]
texts = list(topics.values())[:12]
model, tokenizer = AutoModelForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)
result = engine.prune(model, params=0.8, data=texts, tokenizer=tokenizer, compensate="lstsq")
print(f"{result.before:,} parameters, now {result.after:,}; {result.save(target)}")

model = AutoModelForCausalLM.from_pretrained(target)
start = tokenizer("The for statement is used to", return_tensors="pt")
print(tokenizer.decode(model.generate(**start, max_new_tokens=40, do_sample=False)[0]))
