"""Words for planes in six languages: what a description is matched against, so that none of its text is copied.

The order decides: the specific before the general. A word counts where it occurs anywhere in a description, case
aside, exactly as a profile is applied at ingest, so no word here may hide inside an everyday one ("lung" stands in the
German "Abteilung"). Views that the ontology has no plane for lead to `unknown`, so that a later, more general word does
not claim them.
Source: ISUOG Practice Guidelines (performance of the routine mid-trimester fetal ultrasound scan, 2022) for the views;
the translations are ours.
"""

import unicodedata
from collections.abc import Mapping

_VIEWS: tuple[tuple[str, str, str], ...] = (
    ("transventricular", "en", "trans-ventricular|lateral ventricle|ventricular plane"),
    ("transventricular", "es", "ventrículo lateral|ventrículos laterales|plano ventricular"),
    ("transventricular", "pt", "ventrículos laterais"),
    ("transventricular", "fr", "trans-ventriculaire|ventricule latéral|ventricules latéraux"),
    ("transventricular", "de", "transventrikulär|transventrikulaer|seitenventrikel"),
    ("transventricular", "it", "trans-ventricolare|ventricolo laterale|ventricoli laterali"),
    ("transcerebellar", "en", "trans-cerebellar|cerebell|posterior fossa|cisterna magna"),
    ("transcerebellar", "es", "cerebelo|cerebelos|fosa posterior"),
    ("transcerebellar", "pt", "cerebelar|fossa posterior"),
    ("transcerebellar", "fr", "cérébell|cervelet|fosse postérieure"),
    ("transcerebellar", "de", "kleinhirn|zerebell|hintere schädelgrube|transzerebell"),
    ("transcerebellar", "it", "cervelletto|fossa cranica posteriore"),
    ("transthalamic", "en", "trans-thalamic|thalami|thalamus"),
    ("transthalamic", "es", "transtalámic|tálamo"),
    ("transthalamic", "pt", "transtalâmic|tâlamo"),
    ("transthalamic", "fr", "trans-thalamique"),
    ("transthalamic", "de", "transthalamisch"),
    ("four-chamber", "en", "four chamber|four-chamber|4 chamber|4-chamber|4ch|4 ch|4cv"),
    ("four-chamber", "es", "cuatro cámaras|4 cámaras|cuatro cavidades|corazón 4c"),
    ("four-chamber", "pt", "quatro câmaras|4 câmaras|coração 4c"),
    ("four-chamber", "fr", "quatre cavités|4 cavités"),
    ("four-chamber", "de", "vierkammer|4-kammer|4 kammer|vier kammer"),
    ("four-chamber", "it", "quattro camere|4 camere"),
    ("unknown", "en", "outflow|three vessel|three-vessel|3 vessel|3vv|3vt|lvot|rvot|aortic arch"),
    ("unknown", "es", "tres vasos|3 vasos|tractos de salida|arco aórtico"),
    ("unknown", "pt", "três vasos|vias de saída"),
    ("unknown", "fr", "trois vaisseaux|3 vaisseaux|crosse aortique"),
    ("unknown", "de", "dreigefäß|drei-gefäß|aortenbogen|ausflusstrakt"),
    ("unknown", "it", "tre vasi|arco aortico"),
    ("femur", "en", "femur|femor|thigh|fl long"),
    ("femur", "es", "fémur|diáfisis"),
    ("femur", "pt", "fêmur"),
    ("femur", "fr", "longueur fémorale|fémor"),
    ("femur", "de", "oberschenkel|femurlänge"),
    ("femur", "it", "femore"),
    ("unknown", "en", "kidney|renal|bladder"),
    ("unknown", "es", "riñón|riñones|vejiga"),
    ("unknown", "pt", "rins fetais|bexiga"),
    ("unknown", "fr", "reins|rénal|vessie"),
    ("unknown", "de", "niere|harnblase"),
    ("unknown", "it", "reni fetali|renale|vescica"),
    ("abdomen", "en", "abdom|stomach|abdo "),
    ("abdomen", "es", "estómago|perim abd"),
    ("abdomen", "pt", "abdôme|estômago"),
    ("abdomen", "fr", "ventre|estomac"),
    ("abdomen", "de", "bauch|magenblase"),
    ("abdomen", "it", "addom|stomaco"),
    ("unknown", "en", "fetal face|facial|profile|nasal bone|lips"),
    ("unknown", "es", "perfil|rostro|cara fetal|labios|hueso nasal"),
    ("unknown", "pt", "face fetal|lábios|osso nasal"),
    ("unknown", "fr", "visage|profil|lèvres|os propres du nez"),
    ("unknown", "de", "gesicht|lippen|nasenbein"),
    ("unknown", "it", "profilo|volto|labbra|osso nasale"),
    ("unknown", "en", "spine|placenta|cervix|cervical length"),
    ("unknown", "es", "columna|cuello uterino|cérvix"),
    ("unknown", "pt", "coluna|colo uterino"),
    ("unknown", "fr", "rachis|colonne vertébrale|col utérin"),
    ("unknown", "de", "wirbelsäule|plazenta|zervix"),
    ("unknown", "it", "colonna vertebrale|collo uterino"),
    ("thorax", "en", "thorax|thorac|chest|lungs|heart|cardiac"),
    ("thorax", "es", "tórax|torác|pulmón|pulmones|corazón|cardíac"),
    ("thorax", "pt", "pulmões|coração"),
    ("thorax", "fr", "poumon|cœur|coeur|cardiaque"),
    ("thorax", "de", "brustkorb|herz"),
    ("thorax", "it", "torace|polmon|cuore"),
    ("brain", "en", "brain|head|skull|cranial|biparietal|neurosono|encephal"),
    ("brain", "es", "cerebr|cabeza|cráneo|encéfalo"),
    ("brain", "pt", "cérebro|cabeça|crânio"),
    ("brain", "fr", "cerveau|cérébr|tête|crâne|bipariétal"),
    ("brain", "de", "gehirn|kopf|schädel"),
    ("brain", "it", "cervello|testa fetale|cranio"),
)


def _plain(word: str) -> str:
    """Return a word without its accents: systems of hospitals often drop them."""
    decomposed = unicodedata.normalize("NFKD", word.replace("œ", "oe").replace("ß", "ss"))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def _spellings(word: str) -> tuple[str, ...]:
    joined = (word.replace("trans-", "trans"), word.replace("trans-", "trans "), word) if "trans-" in word else (word,)
    return tuple(dict.fromkeys(s for w in joined for s in (w.casefold(), _plain(w).casefold())))


def _vocabulary() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for plane, language, words in _VIEWS:
        for spelling in (s for word in words.split("|") for s in _spellings(word)):
            found.setdefault(spelling, (plane, language))
    return found


# Word -> (plane, language), in the order in which they decide.
WORDS: Mapping[str, tuple[str, str]] = _vocabulary()


def find_word(text: str) -> str:
    """Return the first of our words that occurs in a description; empty where none does.

    >>> find_word("Feto: cerebelo y fosa posterior"), find_word("OB 2nd trimester")
    ('cerebelo', '')
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    return next((word for word in WORDS if word in folded), "")


def plane_of(word: str) -> str:
    """Return the plane that a word of ours leads to; `unknown` for none."""
    return WORDS[word][0] if word in WORDS else "unknown"
