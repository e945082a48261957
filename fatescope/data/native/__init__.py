"""Native files of Amnis imaging flow cytometers: .rif (raw), .cif (compensated) and .daf (analysis).

One file holds up to millions of objects, each with all its channels side by side. `reader.NativeFile` reads them one
after the other in flat memory; `analysis` reads which objects a person put into which population. Names of people and
paths of other machines, which these files hold too, are never kept.
"""
