"""What a subtitle needs to know of a language: where a clause ends, where it goes on, what must not stand alone."""

# Characters that end a sentence, or a part of one; closing quotes and brackets may follow.
SENTENCE_ENDS = ".!?…。！？؟।"
CLAUSE_ENDS = ",;:，、；：،؛–—"
CLOSING = "\"'”’»)]}」』）】"

_COMMAS = {"ja": "、", "zh": "，", "fa": "،", "ur": "،"}

# Words that begin a new thought, so that a subtitle may well break before them.
_CONJUNCTIONS = {
    "ar": "و أو أم لكن لأن ثم بل إذا حتى كي بينما حيث",
    "cs": "a ale ani aby avšak i jestli když nebo než pokud protože takže však že",
    "da": "og men eller for så at da fordi hvis når mens selvom",
    "de": "aber als bevor da damit dass denn doch falls nachdem ob obwohl oder sobald sodass "
    "sondern und während weil wenn",
    "el": "και αλλά ή όμως γιατί επειδή αν όταν ενώ ώστε ότι πριν αφού",
    "en": "after although and as because before but for if nor once or since so than that though unless until when "
    "whenever where whereas wherever whether which while who yet",
    "es": "antes aunque como cuando donde e mientras ni o pero porque pues que si sino u y",
    "fa": "و یا اما ولی زیرا چون اگر که تا وقتی هرچند پس",
    "fi": "ja tai vai mutta vaan sillä koska jos kun että jotta vaikka kunnes sekä eli",
    "fr": "car comme donc et lorsque mais ni or ou parce puisque quand que quoique si",
    "he": "או אבל אלא כי אם כאשר כש לכן למרות אך",
    "hi": "और या लेकिन क्योंकि अगर यदि जब तो कि मगर परन्तु बल्कि",
    "hu": "és vagy de mert hogy ha amikor mint hanem tehát ezért bár pedig",
    "it": "anche che come dove dunque e ed ma mentre né o oppure perché però poiché quando quindi se",
    "ja": "そして しかし または および だから それで けれど なぜなら もし ながら ので から",
    "ko": "그리고 그러나 하지만 또는 그래서 왜냐하면 만약 그런데 그러면 혹은",
    "nl": "als dat dus en maar nadat of omdat terwijl toen totdat want wanneer zodat zodra",
    "pl": "a albo ale aby bo choć czy gdy i jeśli jednak lecz lub oraz ponieważ że więc",
    "pt": "como e embora enquanto mas nem ou pois porque porém quando que se",
    "ru": "а если и или когда как либо но однако потому пока хотя чтобы что",
    "sv": "och men eller för så att då eftersom om när medan fast",
    "tr": "ama ancak çünkü da de eğer fakat hem ile ki ve veya veyahut yahut",
    "uk": "а або але бо і й коли та тому хоча чи що щоб як якщо",
    "ur": "اور یا لیکن کیونکہ اگر کہ جب مگر تو پھر",
    "vi": "và hoặc nhưng vì nếu khi mà thì nên tuy để rằng",
    "zh": "和 或 但 但是 因为 所以 如果 虽然 而且 然后 并且 不过 还是",
}

# Words that point forward: a line that ends with one makes the reader stumble.
_PREPOSITIONS = {
    "de": "an auf aus bei bis durch für gegen hinter in mit nach neben ohne seit über um unter von vor zu zwischen",
    "en": "about across against along among around at behind below beside between beyond by down during from in inside "
    "into like near of off on onto out over past through to toward towards under up upon with within without",
    "es": "a ante bajo con contra de desde durante en entre hacia hasta para por según sin sobre tras",
    "fr": "à avec chez contre dans de depuis derrière devant en entre par pendant pour sans sous sur vers",
    "it": "a con contro da di dopo durante fra in per senza sopra sotto su tra verso",
    "nl": "aan achter bij door in met na naar om onder op over sinds te tegen tot tussen uit van voor zonder",
    "pt": "a ante até com contra de desde durante em entre para por sem sob sobre",
}
_LEADING_WORDS = {
    "de": "der die das den dem des ein eine einen einem einer eines mein dein sein ihr unser kein keine "
    "ist sind war waren hat haben wird werden kann muss nicht sehr ich du er sie es wir",
    "en": "a an the my your his her its our their this these those no every some any am is are was were be been "
    "have has had do does did will would can could shall should may might must not very i you he she it we they "
    "mr mrs ms dr",
    "es": "el la los las un una unos unas mi tu su mis tus sus este esta es son ha han he no muy yo se me te",
    "fr": "le la les l un une des du au aux mon ma mes ton ta tes son sa ses ce cet cette est sont a ont ai ne je tu "
    "il elle on nous vous se me te très",
    "it": "il lo la i gli le un uno una mio mia tuo tua suo sua questo questa è sono ha hanno ho non si mi ti molto",
    "nl": "de het een mijn jouw zijn haar ons onze hun dit dat is was heeft hebben niet zeer ik je hij ze we",
    "pt": "o a os as um uma uns umas meu minha seu sua este esta é são tem não eu se me muito",
}


def get_comma(lang: str) -> str:
    """The comma of a language, by its code."""
    return _COMMAS.get(lang, ",")


def get_conjunctions(lang: str) -> list[str]:
    """Words before which a subtitle may well break, in lower case; none for a language that is not listed here."""
    return _CONJUNCTIONS.get(lang, "").split()


def get_prepositions(lang: str) -> list[str]:
    """Words before which a line may break if nothing better is there, and after which it should not."""
    return _PREPOSITIONS.get(lang, "").split()


def get_leading_words(lang: str) -> list[str]:
    """Articles, pronouns, auxiliaries and the like: words that belong to the next one."""
    return _LEADING_WORDS.get(lang, "").split()
