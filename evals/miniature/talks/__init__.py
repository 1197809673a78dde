"""The vision-language part of the embedded world: captions, conversations, small sets, text and its words."""
