def refuse(arguments, sealed): pass
