"""When is each word said: text and audio -> times of characters, words and sentences."""
